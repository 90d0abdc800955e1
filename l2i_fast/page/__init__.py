"""Pages to listen to, and listening tests."""

from l2i_fast.page.answers import read_answers, to_csv
from l2i_fast.page.builder import write_page
from l2i_fast.page.contents import PageSample, Section, Table
from l2i_fast.page.listening import ListeningTest, write_listening_test
from l2i_fast.page.reading import read_sections
from l2i_fast.page.summary import write_summary

__all__ = [
    "ListeningTest",
    "PageSample",
    "Section",
    "Table",
    "read_answers",
    "read_sections",
    "to_csv",
    "write_listening_test",
    "write_page",
    "write_summary",
]
