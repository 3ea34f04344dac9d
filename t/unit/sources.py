"""The sources as text, for the tests that hold them together."""

import functools
import os
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What is made, and what is bytes or recorded word for word.

NOT_OURS = re.compile(r"(.*/)?(\.git|\.hypothesis|\.pytest_cache|__pycache__)"
                      r"|build|run|t/servroot.*"
                      r"|t/fuzz/corpus|bench/results"
                      r"|t/unit/resilience4j/recorded\.txt|docs/.*\.png")


def repository():
    """path: text, of the project's files, also without git"""

    files = {}

    for folder, folders, names in os.walk(ROOT):
        place = pathlib.Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders
                      if not NOT_OURS.fullmatch(str(place / name))]

        for name in names:
            path = str(place / name)

            if not NOT_OURS.fullmatch(path) and not name.endswith(".pyc"):
                files[path] = (ROOT / path).read_text("utf-8")

    return dict(sorted(files.items()))


TOKEN = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                   re.DOTALL)

DEFINITION = re.compile(r"^(?P<type>[A-Za-z_][^\n;={}()#]*)\n"
                        r"(?P<name>[a-z_]\w*)\((?P<arguments>[^;{}]*?)\)\n"
                        r"\{\n(?P<body>.*?)^\}$", re.DOTALL | re.MULTILINE)

DECLARATION = re.compile(r"^(?!static|typedef|#)[A-Za-z_][\w *]*?[ *]"
                         r"(?P<name>(?:ngx|payment)_\w+)\([^;{}]*?\)"
                         r"(?:\s*__attribute__\s*\(\(.*?\)\))?;",
                         re.DOTALL | re.MULTILINE)

INCLUDE = re.compile(r'^#include\s+([<"])([^>"]+)[>"]', re.MULTILINE)

CALL = re.compile(r"\b((?:ngx|payment)_\w+)\(")


def blank(match):
    """The same lines, without a comment's or a string's text."""

    text = match.group(0)

    return '""' if text[0] == '"' else "' '" if text[0] == "'" \
        else "\n" * text.count("\n")


class Source:
    """One .c or .h file."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.folder, _, name = path.rpartition("/")
        self.stem, _, self.kind = name.rpartition(".")

    @functools.cached_property
    def code(self):
        return TOKEN.sub(blank, self.text)

    @functools.cached_property
    def functions(self):
        """name, public, first line, lines from the name to the brace"""

        found = []

        for match in DEFINITION.finditer(self.code):
            start = match.start("name")
            found.append((match.group("name"),
                          "static" not in match.group("type").split(),
                          self.code.count("\n", 0, start) + 1,
                          self.code.count("\n", start, match.end()) + 1))

        return found

    @functools.cached_property
    def calls(self):
        """The names that its functions' bodies call."""

        return {name for match in DEFINITION.finditer(self.code)
                for name in CALL.findall(match.group("body"))}

    @functools.cached_property
    def includes(self):
        """whether it is in quotes, name, line"""

        # a name in quotes is a string to the tokenizer: read the text itself
        return [(match.group(1) == '"', match.group(2),
                 self.text.count("\n", 0, match.start()) + 1)
                for match in INCLUDE.finditer(self.text)]

    def comments(self):
        """line, text"""

        for match in TOKEN.finditer(self.text):
            if match.group(0).startswith("/*"):
                text = match.group(0)[2:-2]
                yield (self.text.count("\n", 0, match.start()) + 1,
                       re.sub(r"\n\s*\*?", "\n", text).strip(" *\n"))
