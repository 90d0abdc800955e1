"""Results of interpretations: data, pictures, files."""

from l2i_fast.results.explanation import Explanation
from l2i_fast.results.result import Result

__all__ = ["Explanation", "Result"]
