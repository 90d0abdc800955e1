"""Published networks with their front ends and classes, ready to be explained."""

#: Names of the adapters; each is a module with a function of its name, which returns `l2i_fast.adapters.parts.Parts`.
ADAPTERS = ("aisfx", "silero", "yamnet")
