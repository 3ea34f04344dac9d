"""The house is kept: what a program can check of how the sources are laid out.

Every rule is a function that takes a tree of files and gives a list of
complaints, each of which says what to do.  A second test gives every rule a
small tree that breaks it, so that a rule cannot fall silent.

    python3 -m pytest -q -s t/unit/test_tidy.py     also prints the floors
"""

import collections
import functools
import re

import pytest

from sources import DECLARATION, Source, repository

# From the roof to the cellar: whose headers and functions a folder may use,
# beside its own.  An arrow that is not here goes up.

FLOORS = {
    "ngx_payment_module/http": ["ngx_payment_module/writer",
                                "worker",
                                "worker/rules",
                                "ngx_payment_module/db",
                                "ngx_payment_module/shared",
                                "ngx_payment_module/payment"],
    "ngx_payment_module/writer": ["ngx_payment_module/db",
                                  "ngx_payment_module/shared",
                                  "ngx_payment_module/payment"],
    "worker": ["worker/rules",
               "ngx_payment_module/db",
               "ngx_payment_module/shared",
               "ngx_payment_module/payment"],
    "ngx_payment_module/db": ["ngx_payment_module/shared"],
    "ngx_payment_module/shared": [],
    "ngx_payment_module/payment": [],
    "worker/rules": [],
}

# Compiled without nginx by the unit tests and the fuzzer.

PURE = ["ngx_payment_module/payment", "worker/rules"]

# Which folder, or which files of it, may include a library's header.

LIBRARIES = {
    "ngx_http.h": ["ngx_payment_module/http/"],
    "mysql.h": ["ngx_payment_module/db/", "worker/ngx_payment_row."],
    "librdkafka/rdkafka.h": ["worker/ngx_payment_producer"],
    "jansson.h": ["ngx_payment_module/payment/",
                  "ngx_payment_module/http/ngx_http_payment_admin.",
                  "worker/ngx_payment_producer_brokers."],
}

# Headers that belong to a whole folder and to no .c file of the same name.

FOLDER_HEADERS = ["ngx_payment_module/http/ngx_http_payment_module.h",
                  "ngx_payment_module/payment/payment.h"]

COLUMNS_MAX = 80
FUNCTION_LINES_MAX = 90


# --- exceptions, each with its name

# The function is longer than FUNCTION_LINES_MAX lines.

LONG_FUNCTIONS = {
    "ngx_payment_db_step",              # one state machine, one switch
}

# The public functions of a file begin with its name, or with one of these.

OTHER_NAMES = {
    # the rules are of the lease, and so they are called
    "payment_lease_rules": ["payment_lease_"],
}


def room(source):
    """A header and its .c file are one room."""

    return source.path if source.path in FOLDER_HEADERS \
        else f"{source.folder}/{source.stem}"


def folder(room):
    return room.rpartition("/")[0]


class Tree:

    def __init__(self, files):
        self.files = files
        self.sources = [Source(path, text)
                        for path, text in sorted(files.items())
                        if path.endswith((".c", ".h"))
                        and path.rpartition("/")[0] in FLOORS]
        self.header = {s.path.rpartition("/")[2]: s
                       for s in self.sources if s.kind == "h"}

    @functools.cached_property
    def home(self):
        """The source that defines a public function."""

        return {name: source for source in self.sources
                for name, public, _, _ in source.functions if public}

    @functools.cached_property
    def arrows(self):
        """(room, room): why, for includes and calls"""

        arrows = {}

        for source in self.sources:
            for ours, name, line in source.includes:
                other = self.header.get(name) if ours else None

                if other and room(other) != room(source):
                    arrows.setdefault((room(source), room(other)),
                                      f"{source.path}:{line} includes {name}")

            for name in sorted(source.calls):
                other = self.home.get(name)

                if other and room(other) != room(source):
                    arrows.setdefault((room(source), room(other)),
                                      f"{source.path} calls {name}()")

        return arrows

    def circles(self):
        """The strongly connected parts of more than one room (Tarjan)."""

        below = collections.defaultdict(list)
        for start, end in self.arrows:
            below[start].append(end)

        number, low, stack, parts = {}, {}, [], []

        def visit(room):
            number[room] = low[room] = len(number)
            stack.append(room)

            for other in below[room]:
                if other not in number:
                    visit(other)
                    low[room] = min(low[room], low[other])
                elif other in stack:
                    low[room] = min(low[room], number[other])

            if low[room] == number[room]:
                at = stack.index(room)
                if len(stack) - at > 1:
                    parts.append(sorted(stack[at:]))
                del stack[at:]

        for room in sorted({end for arrow in self.arrows for end in arrow}):
            if room not in number:
                visit(room)

        return parts


# --- rules

def wrong_arrows(tree):
    """Nobody uses a floor above the own."""

    for (start, end), why in sorted(tree.arrows.items()):
        above, below = folder(start), folder(end)

        if below != above and below not in FLOORS[above]:
            yield (f"{why}, which is on a floor that {above}/ may not use "
                   f"(it may use {', '.join(FLOORS[above]) or 'none'}): hand "
                   "a handler down, or move what is shared to a lower floor")


def wrong_circles(tree):
    """No two files need each other, not even over a third."""

    for rooms in tree.circles():
        arrows = [why for (start, end), why in sorted(tree.arrows.items())
                  if start in rooms and end in rooms]
        yield (", ".join(rooms) + " are a circle. Cut one of these, best by "
               "a handler that the upper file gives to the lower one:\n    "
               + "\n    ".join(arrows))


def wrong_headers(tree):
    """What is pure has no nginx, and a library has one place."""

    for source in tree.sources:
        for ours, name, line in source.includes:
            where = f"{source.path}:{line}"

            if source.folder in PURE and name.startswith("ngx_"):
                yield (f"{where} includes {name}: {source.folder}/ compiles "
                       "without nginx, for the unit tests and the fuzzer")

            if ours and name not in tree.header:
                yield f"{where} includes {name}, which is no file of ours"

            places = LIBRARIES.get(name)

            if places and not source.path.startswith(tuple(places)):
                yield (f"{where} includes {name}: only {', '.join(places)} "
                       "may")


def wrong_order_of_headers(tree):
    """A header of nginx comes before the first of the system's."""

    for source in tree.sources:
        system = None

        for ours, name, line in source.includes:
            nginx = name.startswith("ngx_")

            if nginx and system is None:
                break

            if nginx:
                yield (f"{source.path}:{line} includes {name} after {system}: "
                       "put it first, because ngx_config.h says what the "
                       "system's headers are to declare")
                break

            system = system or name


def wrong_declarations(tree):
    """A header declares the functions of its own .c file."""

    for source in tree.sources:
        if source.kind != "h" or source.path in FOLDER_HEADERS:
            continue

        for match in DECLARATION.finditer(source.code):
            home = tree.home.get(match.group("name"))

            if home and room(home) != room(source):
                yield (f"{source.path} declares {match.group('name')}(), "
                       f"which is of {home.path}: declare it in the header of "
                       "that file")


def wrong_names(tree):
    """A public function says in which file it is."""

    for source in tree.sources:
        names = [source.stem + "_"] + OTHER_NAMES.get(source.stem, [])

        for name, public, line, _ in source.functions:
            if public and not (name + "_").startswith(tuple(names)):
                yield (f"{source.path}:{line}: {name}() is public and does "
                       f"not begin with {' or '.join(names)}: rename it, "
                       "make it static, or move it to the file it names")


def wrong_lengths(tree):
    for source in tree.sources:
        for name, _, line, lines in source.functions:
            if lines > FUNCTION_LINES_MAX and name not in LONG_FUNCTIONS:
                yield (f"{source.path}:{line}: {name}() has {lines} lines, "
                       f"more than {FUNCTION_LINES_MAX}: cut out what has a "
                       "name of its own")


def wrong_lines(tree):
    for source in tree.sources:
        for number, line in enumerate(source.text.split("\n"), 1):
            where = f"{source.path}:{number}"

            if len(line) > COLUMNS_MAX:
                yield f"{where} has {len(line)} columns, {COLUMNS_MAX} are all"

            if "\t" in line:
                yield f"{where} has a tab: indent by 4 spaces"


def wrong_blanks(tree):
    for path, text in tree.files.items():
        if text and not text.endswith("\n"):
            yield f"{path} does not end with a newline"

        if path.endswith(".t"):
            continue                    # a blank may be part of an answer

        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield f"{path}:{number} ends with a blank"


def wrong_comments(tree):
    """A comment is a whole sentence, or a whole phrase at a member."""

    for source in tree.sources:
        for line, comment in source.comments():
            if comment.startswith("..") or comment.endswith(".."):
                yield (f"{source.path}:{line}: the comment begins or ends "
                       "with dots: say it in a sentence that stands alone")


def wrong_config(tree):
    """nginx's configure builds every file, and knows every header."""

    config = tree.files["config"]
    listed = {"c": words(config, "NGX_PAYMENT_SRCS"),
              "h": words(config, "NGX_PAYMENT_DEPS")}
    paths = {s.path for s in tree.sources}

    for source in tree.sources:
        if source.path not in listed[source.kind]:
            name = {"c": "SRCS", "h": "DEPS"}[source.kind]
            yield f"{source.path} is not in NGX_PAYMENT_{name} of config"

    for path in sorted((listed["c"] | listed["h"]) - paths):
        yield f"config lists {path}, which does not exist"

    for place in FLOORS:
        if f"$ngx_addon_dir/{place} " not in config:
            yield f"config does not have {place} in ngx_module_incs"


def words(config, name):
    match = re.search(rf'^{name}="(.*?)"', config, re.DOTALL | re.MULTILINE)

    return set(re.findall(r"\$ngx_addon_dir/(\S+\.[ch])", match.group(1)))


MACHINE = re.compile(r"(?<![\w.$})/-])/(?:work|home|root|Users)/[\w.]")


def wrong_paths(tree):
    """What is here works on every machine."""

    for path, text in tree.files.items():
        for match in MACHINE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield (f"{path}:{line} names a path of one machine: "
                   f"{text[match.start():match.end() + 20].split()[0]}")


RULES = [wrong_arrows, wrong_circles, wrong_headers, wrong_order_of_headers,
         wrong_declarations, wrong_names, wrong_lengths, wrong_lines,
         wrong_blanks, wrong_comments, wrong_config, wrong_paths]


# --- every rule can fail

FUNCTION = "void\n{}(void)\n{{\n{}}}\n"
DB, WRITER = "ngx_payment_module/db/", "ngx_payment_module/writer/"
WORKER, RULES_ = "worker/", "worker/rules/"

BROKEN = [
    (wrong_arrows, "worker/ngx_payment_a.c:1 includes ngx_payment_b.h", {
        WORKER + "ngx_payment_a.c": '#include "ngx_payment_b.h"\n',
        WRITER + "ngx_payment_b.h": ""}),

    (wrong_arrows, "db/ngx_payment_a.c calls ngx_payment_b_go()", {
        DB + "ngx_payment_a.c": FUNCTION.format(
            "ngx_payment_a", "    ngx_payment_b_go();\n"),
        WRITER + "ngx_payment_b.c": FUNCTION.format("ngx_payment_b_go", "")}),

    (wrong_circles, "ngx_payment_a, worker/ngx_payment_b, worker/ngx_payment_c"
                    " are a circle", {
        WORKER + "ngx_payment_a.c": FUNCTION.format(
            "ngx_payment_a", "    ngx_payment_b();\n"),
        WORKER + "ngx_payment_b.c": FUNCTION.format(
            "ngx_payment_b", "    ngx_payment_c();\n"),
        WORKER + "ngx_payment_c.c": '#include "ngx_payment_a.h"\n'
            + FUNCTION.format("ngx_payment_c", ""),
        WORKER + "ngx_payment_a.h": ""}),

    (wrong_headers, "compiles without nginx", {
        RULES_ + "payment_a.c": "#include <ngx_core.h>\n"}),

    (wrong_headers, "which is no file of ours", {
        WORKER + "ngx_payment_a.c": '#include "ngx_payment_gone.h"\n'}),

    (wrong_headers, "includes librdkafka/rdkafka.h: only", {
        WORKER + "ngx_payment_a.c": "#include <librdkafka/rdkafka.h>\n"}),

    (wrong_order_of_headers, "ngx_payment_a.h after mysql.h: put it first", {
        DB + "ngx_payment_a.c": '#include <mysql.h>\n'
                                '#include "ngx_payment_a.h"\n'}),

    (wrong_declarations, "declares ngx_payment_b(), which is of worker/", {
        WORKER + "ngx_payment_a.h": "void ngx_payment_b(void);\n",
        WORKER + "ngx_payment_b.c": FUNCTION.format("ngx_payment_b", "")}),

    (wrong_names, ":2: ngx_payment_b_go() is public and does not begin", {
        WORKER + "ngx_payment_a.c": FUNCTION.format("ngx_payment_b_go", "")}),

    (wrong_names, "ngx_payment_ab() is public and does not begin", {
        WORKER + "ngx_payment_a.c": FUNCTION.format("ngx_payment_ab", "")}),

    (wrong_lengths, "ngx_payment_a() has 94 lines", {
        WORKER + "ngx_payment_a.c": FUNCTION.format(
            "ngx_payment_a", "\n" * 91)}),

    (wrong_lines, ":2 has 81 columns", {
        WORKER + "ngx_payment_a.c": "\n" + "x" * 81 + "\n"}),

    (wrong_lines, ":1 has a tab", {WORKER + "ngx_payment_a.c": "\tx;\n"}),

    (wrong_blanks, "docs/a.md:1 ends with a blank", {"docs/a.md": "a \nb\n"}),

    (wrong_blanks, "docs/a.md does not end with", {"docs/a.md": "a"}),

    (wrong_comments, "ngx_payment_a.c:1: the comment begins or ends", {
        WORKER + "ngx_payment_a.c": "int  a;  /* .. of the first */\n"}),

    (wrong_comments, "ngx_payment_a.c:2: the comment begins or ends", {
        WORKER + "ngx_payment_a.c": "\n/*\n * To be tried again ...\n */\n"}),

    (wrong_config, "worker/ngx_payment_a.c is not in NGX_PAYMENT_SRCS", {
        WORKER + "ngx_payment_a.c": "",
        "config": 'NGX_PAYMENT_SRCS=" \\\n"\nNGX_PAYMENT_DEPS=""\n'}),

    (wrong_config, "config lists worker/gone.h, which does not exist", {
        "config": 'NGX_PAYMENT_SRCS=""\n'
                  'NGX_PAYMENT_DEPS="$ngx_addon_dir/worker/gone.h"\n'}),

    (wrong_config, "config does not have worker in ngx_module_incs", {
        "config": 'NGX_PAYMENT_SRCS=""\nNGX_PAYMENT_DEPS=""\n'}),

    (wrong_paths, "tools/a.sh:1 names a path of one machine: /" "home/me", {
        "tools/a.sh": "cd /" "home/me/payments\n"}),
]


@pytest.mark.parametrize("rule, complaint, files", BROKEN,
                         ids=[row[0].__name__ for row in BROKEN])
def test_rule_can_fail(rule, complaint, files):
    complaints = list(rule(Tree(files)))

    assert any(complaint in each for each in complaints), complaints


def test_every_rule_is_seen_to_fail():
    assert {row[0] for row in BROKEN} == set(RULES)


# --- the tree as it is

@pytest.fixture(scope="module")
def tree():
    return Tree(repository())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_tidy(tree, rule):
    complaints = list(rule(tree))

    assert not complaints, "\n" + "\n".join(complaints)


def test_the_reader_of_c_finds_what_there_is(tree):
    """Nothing that is compiled escapes by the way that it is written."""

    for source in tree.sources:
        bodies = source.code.count(")\n{\n")
        assert len(source.functions) == bodies, (
            f"{source.path} has {bodies} functions and "
            f"{len(source.functions)} of them in the form: the type on its "
            "own line, name and arguments, then '{' on its own line")

    assert len(tree.home) > 200
    assert len(tree.arrows) > 60


def test_exceptions_are_needed(tree):
    """A name in a list of exceptions that is none any more is taken out."""

    names = {name for s in tree.sources for name, _, _, lines in s.functions
             if lines > FUNCTION_LINES_MAX}
    assert LONG_FUNCTIONS <= names, LONG_FUNCTIONS - names

    stems = {s.stem for s in tree.sources}
    assert set(OTHER_NAMES) <= stems, set(OTHER_NAMES) - stems


def test_print_floors(tree):
    """Not a check: the arrows between folders, for whoever wants to see."""

    between = collections.Counter((folder(start), folder(end))
                                  for start, end in tree.arrows
                                  if folder(start) != folder(end))
    up = {arrow: why for arrow, why in tree.arrows.items()
          if folder(arrow[1]) not in [folder(arrow[0]),
                                      *FLOORS[folder(arrow[0])]]}
    circles = tree.circles()

    print(f"\nrooms {len({e for a in tree.arrows for e in a})}, "
          f"arrows {len(tree.arrows)}, up {len(up)}, circles {len(circles)}")

    for (start, end), count in sorted(between.items()):
        print(f"  {start} -> {end}: {count}")

    for arrow, why in sorted(up.items()):
        print(f"  up: {arrow[0]} -> {arrow[1]}: {why}")

    for rooms in circles:
        print("  circle: " + ", ".join(rooms))
