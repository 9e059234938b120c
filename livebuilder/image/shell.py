"""Reading POSIX shell scripts: which commands they run.

This is the grammar of the shell (POSIX XCU 2.10) as far as it takes to know where a command stands: quotes,
expansions, here-documents, case patterns, redirections, assignments, functions. Nothing is run and no variable is
followed: a word that an expansion takes part in is *dynamic* and names no command.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from livebuilder.errors import LivebuilderError

# What dash and busybox ash bring along themselves.
BUILTINS = frozenset(
    {
        ".", ":", "[", "alias", "bg", "break", "cd", "command", "continue", "echo", "eval", "exec", "exit", "export",
        "false", "fc", "fg", "getopts", "hash", "jobs", "kill", "local", "printf", "pwd", "read", "readonly", "return",
        "set", "shift", "test", "times", "trap", "true", "type", "ulimit", "umask", "unalias", "unset", "wait"
    }
)  # fmt: skip


@dataclass(frozen=True)
class Wrapper:
    """A command or function that runs the command behind it: how that one is found, and where it runs."""

    skip: int = 0  # words of its own, not counting options
    options_with_word: tuple[str, ...] = ()  # options that take the next word along
    other_root: bool = False  # what it runs is a program of another root
    builtins: bool = False  # it can run what is built into the shell


WRAPPERS: Mapping[str, Wrapper] = {
    "busybox": Wrapper(),
    "chroot": Wrapper(skip=1, other_root=True),
    "command": Wrapper(builtins=True),
    "cttyhack": Wrapper(),
    "env": Wrapper(options_with_word=("-u",)),
    "exec": Wrapper(options_with_word=("-a",)),
    "ionice": Wrapper(options_with_word=("-c", "-n")),
    "nice": Wrapper(options_with_word=("-n",)),
    "nohup": Wrapper(),
    "setsid": Wrapper(),
    "switch_root": Wrapper(skip=1, options_with_word=("-c",), other_root=True),
    "time": Wrapper(),
    "timeout": Wrapper(skip=1, options_with_word=("-s", "-k")),
    "xargs": Wrapper(options_with_word=("-n", "-s", "-I", "-E", "-P", "-a")),
}
# Variables that hold nothing, or a busybox, in front of a command: a habit of the scripts here.
_WRAPPER_VARIABLES = {"RUN": Wrapper(builtins=True), "BB": Wrapper(), "BUSYBOX": Wrapper()}

_MARK = "\0"  # in a word's text: around the name of a variable; two together stand for any other expansion
_ALL_ARGUMENTS = f"{_MARK}@{_MARK}"
_ROOT_PREFIX = f"{_MARK}ROOT{_MARK}/"
_VARIABLE = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_OPERATOR = re.compile(r"&&|\|\||;;|;&|<<-|<<|>>|<&|>&|<>|>\||[;&|()<>\n]")
_IO_NUMBER = re.compile(r"[0-9]+(?=[<>])")
_BLANKS = re.compile(r"(?:[ \t\r]|\\\n)+")
_PLAIN = re.compile(r"[\w./:,=+@%~^!?*\[\]-]+")
_PLAIN_IN_QUOTES = re.compile(r"[\w ./:,=+@%~^!?*\[\]<>;&|-]+")
_WORD_ENDS = frozenset(" \t\r\n;&|()<>")
_SEPARATORS = frozenset({";", "&", "\n", "&&", "||", "|"})
_REDIRECTIONS = frozenset({"<", ">", ">>", "<<", "<<-", "<&", ">&", "<>", ">|"})
_COMPOUNDS = {"{": "}", "if": "fi", "while": "done", "until": "done"}
_INSIDE_COMPOUNDS = frozenset({"!", "then", "else", "elif", "do"})


class ShellSyntaxError(LivebuilderError):
    """A script that no shell would take: a quote, an expansion or a compound command without its end."""


@dataclass(frozen=True)
class Word:
    """One word: `text` without its quotes, `raw` as written. An expansion leaves a mark in the text."""

    text: str
    raw: str

    @property
    def is_dynamic(self) -> bool:
        """Whether only the running shell knows what it says."""
        return _MARK in self.text

    @property
    def path(self) -> str | None:
        """The word as the name or path of a program or file, `$ROOT/x` being `/x`; None when it is dynamic."""
        text = f"/{self.text.removeprefix(_ROOT_PREFIX)}" if self.text.startswith(_ROOT_PREFIX) else self.text
        return None if _MARK in text or not text else text


@dataclass(frozen=True)
class Command:
    """A simple command, without its assignments and redirections."""

    words: tuple[Word, ...]
    line: int
    function: str = ""  # the function it stands in


@dataclass(frozen=True)
class Use:
    """A command that a script relies on: a name or a path, and the arguments it is given."""

    name: str
    arguments: tuple[Word, ...]
    line: int
    other_root: bool = False  # it stands behind chroot or switch_root


@dataclass
class Script:
    """What was read: all simple commands, wherever they stand, and the functions that are defined."""

    commands: list[Command] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)

    def asked_for(self) -> set[str]:
        """Commands that may be absent: the script asks with `command -v NAME`, `which`, `type` or `[ -x PATH ]`."""
        found: set[str] = set()
        for command in self.commands:
            texts = [word.text for word in command.words]
            if texts[:2] in (["command", "-v"], ["command", "-V"]):
                found.update(texts[2:])
            elif texts[:1] in (["which"], ["type"]):
                found.update(texts[1:])
            elif texts[:1] in (["["], ["test"]) and "-x" in texts:
                path = command.words[texts.index("-x") + 1].path
                found.update([path.rpartition("/")[2]] if path else [])
        return found

    def sourced(self) -> set[str]:
        """The absolute paths of the files it reads with `.`."""
        read = (command.words[1].path for command in self.commands if _is_source(command))
        return {path for path in read if path is not None and path.startswith("/")}

    def wrappers(self, known: Mapping[str, Wrapper] | None = None) -> dict[str, Wrapper]:
        """Its functions that run what they are given, as `run() { "$@"; }` does; `shift` takes words off first.

        `known` are such functions of other scripts, by way of which they may do so.
        """
        others = {**WRAPPERS, **(known or {})}
        found: dict[str, Wrapper] = {}
        shifted: dict[str, int] = {}
        for command in self.commands:
            name, words = command.function, command.words
            if not name:
                continue
            if words[0].text == "shift":
                by = words[1].text if len(words) > 1 else "1"
                shifted[name] = shifted.get(name, 0) + (int(by) if by.isdecimal() else 0)
            other_root, builtins = False, True
            while words and words[0].text != _ALL_ARGUMENTS:
                wrapper = _wrapper_of(words[0], {**others, **found})
                if wrapper is None:
                    break
                words = _behind(wrapper, words[1:])
                other_root, builtins = other_root or wrapper.other_root, builtins and wrapper.builtins
            if words and words[0].text == _ALL_ARGUMENTS and name not in found:
                found[name] = Wrapper(skip=shifted.get(name, 0), other_root=other_root, builtins=builtins)
        return found

    def uses(self, *, functions: Collection[str] = (), wrappers: Mapping[str, Wrapper] | None = None) -> Iterator[Use]:
        """The commands it relies on that are neither builtins nor functions, its own or those of the other `functions`.

        `wrappers` are such functions as well that run what they are given.
        """
        every = {**WRAPPERS, **(wrappers or {}), **self.wrappers(wrappers)}
        finder = _UseFinder(self.functions | set(functions), every)
        for command in self.commands:
            yield from finder.find(command.words, command.line)


def is_shell_script(text: str) -> bool:
    """Whether the text says that it is one: by its first line, or by a line for shellcheck."""
    first = text.partition("\n")[0]
    return re.match(r"#!\s*\S*/(env\s+)?(da|a)?sh\b", first) is not None or "# shellcheck shell=sh" in text


def parse_script(text: str, *, name: str = "script") -> Script:
    """Read a script; raises `ShellSyntaxError` with `name` and the line."""
    parser = _Parser(text, name, Script())
    parser.read_list()
    return parser.script


def _is_source(command: Command) -> bool:
    return len(command.words) > 1 and command.words[0].text == "."


def _wrapper_of(word: Word, wrappers: Mapping[str, Wrapper]) -> Wrapper | None:
    for name, wrapper in _WRAPPER_VARIABLES.items():
        if word.text == f"{_MARK}{name}{_MARK}":
            return wrapper
    path = word.path
    return wrappers.get(path) or WRAPPERS.get(path.rpartition("/")[2]) if path else None


def _behind(wrapper: Wrapper, words: tuple[Word, ...]) -> tuple[Word, ...]:
    """The command a wrapper runs: behind its options, its assignments (`env A=b`) and the words of its own."""
    at = 0
    while at < len(words) and (words[at].text.startswith("-") or _ASSIGNMENT.match(words[at].raw)):
        at += 2 if words[at].text in wrapper.options_with_word else 1
        if words[at - 1].text == "--":
            break
    return words[at + wrapper.skip :]


@dataclass(frozen=True)
class _UseFinder:
    functions: Collection[str]
    wrappers: Mapping[str, Wrapper]

    def find(
        self, words: tuple[Word, ...], line: int, *, other_root: bool = False, builtins: bool = True
    ) -> Iterator[Use]:
        if not words:
            return
        first, rest = words[0], words[1:]
        name = first.path
        is_function = name in self.functions and not other_root and builtins
        if name == "command" and rest and rest[0].text in ("-v", "-V"):
            return
        if name is not None and not is_function and not (builtins and name in BUILTINS):
            yield Use(name, rest, line, other_root)
        wrapper = _wrapper_of(first, self.wrappers)
        if wrapper is not None:
            yield from self.find(
                _behind(wrapper, rest),
                line,
                other_root=other_root or wrapper.other_root,
                builtins=builtins and wrapper.builtins,
            )
        elif name is not None:
            yield from self._in_arguments(name.rpartition("/")[2], rest, line, other_root=other_root)

    def _in_arguments(self, name: str, words: tuple[Word, ...], line: int, *, other_root: bool) -> Iterator[Use]:
        """Commands that stand in the arguments of another one."""
        if name == "trap" and words:
            yield from self._in_script(words[0], line, other_root=other_root)
        elif name in ("sh", "ash", "dash") and len(words) > 1 and words[0].text == "-c":
            yield from self._in_script(words[1], line, other_root=other_root)
        elif name == "find":
            for at, word in enumerate(words):
                if word.text in ("-exec", "-execdir", "-ok"):
                    yield from self.find(words[at + 1 :], line, other_root=other_root, builtins=False)

    def _in_script(self, word: Word, line: int, *, other_root: bool) -> Iterator[Use]:
        """The commands of a script that stands in one word; in double quotes its expansions are read as they stand."""
        in_double = len(word.raw) > 1 and word.raw[0] == word.raw[-1] == '"'
        text = word.raw[1:-1].replace('\\"', '"') if in_double else word.text
        if _MARK in text or text == "-":
            return
        for command in parse_script(text, name=f"the script given in line {line}").commands:
            yield from self.find(command.words, line, other_root=other_root)


class _Parser:
    """Recursive descent with one token in hand: an operator, a word, or None at the end of the text."""

    def __init__(self, text: str, name: str, script: Script, *, at: int = 0, function: str = "") -> None:
        self.text = text
        self.name = name
        self.script = script
        self.at = at
        self.function = function
        self.documents: list[tuple[str, bool, bool]] = []  # end word, tabs stripped, expanded
        self.token_at = at
        self.token: str | Word | None = None
        self.advance()

    def fail(self, what: str) -> ShellSyntaxError:
        line = self.text.count("\n", 0, min(self.at, len(self.text))) + 1
        return ShellSyntaxError(f"{self.name}, line {line}: {what}")

    # --- commands

    def read_list(self, *closers: str) -> None:
        """Read commands until one of `closers` stands where a command could; that is the token then."""
        while True:
            if self.token is None:
                if closers:
                    raise self.fail(f"the end of the script came before {' or '.join(closers)}")
                return
            if self._is(*closers):
                return
            if isinstance(self.token, str) and self.token in _SEPARATORS:
                self.advance()
            else:
                self.read_command()

    def read_command(self) -> None:
        """Read one command, or one keyword that only stands before another command."""
        if isinstance(self.token, str) and self.token not in _REDIRECTIONS:
            if self.token != "(":
                raise self.fail(f"{self.token!r} where a command should be")
            self.advance()
            self.read_list(")")
            self.advance()
        elif isinstance(self.token, Word) and self.token.raw in _COMPOUNDS:
            closer = _COMPOUNDS[self.token.raw]
            self.advance()
            self.read_list(closer)
            self.advance()
        elif self._is(*_INSIDE_COMPOUNDS):
            self.advance()
            return
        elif self._is("for"):
            while self.token is not None and not self._is(";", "\n"):
                self.advance()
            self.read_list("done")
            self.advance()
        elif self._is("case"):
            self._read_case()
        else:
            self._read_simple()
            return
        while isinstance(self.token, str) and self.token in _REDIRECTIONS:
            self._read_redirection()

    def _read_case(self) -> None:
        while not self._is("in"):
            self._expect_more("in")
        self.advance()
        while True:
            while self._is("\n"):
                self.advance()
            if self._is("esac"):
                break
            while not self._is(")"):
                self._expect_more("esac")
            self.advance()
            self.read_list(";;", ";&", "esac")
            if self._is("esac"):
                break
            self.advance()
        self.advance()

    def _read_simple(self) -> None:
        words: list[Word] = []
        line = self.text.count("\n", 0, self.token_at) + 1
        while True:
            if isinstance(self.token, Word):
                if words or not _ASSIGNMENT.match(self.token.raw):
                    words.append(self.token)
                self.advance()
            elif self.token is not None and self.token in _REDIRECTIONS:
                self._read_redirection()
            elif self.token == "(" and len(words) == 1:
                self._read_function(words[0].text)
                return
            else:
                break
        if self.token == "(":
            raise self.fail("'(' in the middle of a command")
        if words:
            self.script.commands.append(Command(tuple(words), line, self.function))

    def _read_function(self, name: str) -> None:
        self.advance()
        if not self._is(")"):
            raise self.fail("'(' in the middle of a command")
        self.advance()
        while self._is("\n"):
            self.advance()
        self.script.functions.add(name)
        outer, self.function = self.function, name
        self.read_command()
        self.function = outer

    def _read_redirection(self) -> None:
        operator = self.token
        self.advance()
        if not isinstance(self.token, Word):
            raise self.fail(f"{operator} leads nowhere")
        if operator in ("<<", "<<-"):
            self.documents.append((self.token.text, operator == "<<-", self.token.raw == self.token.text))
        self.advance()

    def _is(self, *tokens: str) -> bool:
        return (self.token.raw if isinstance(self.token, Word) else self.token) in tokens

    def _expect_more(self, wanted: str) -> None:
        if self.token is None:
            raise self.fail(f"the end of the script came before {wanted}")
        self.advance()

    # --- tokens

    def advance(self) -> None:
        """Take the next token; the bodies of here-documents are read with the newline before them."""
        blanks = _BLANKS.match(self.text, self.at)
        if blanks:
            self.at = blanks.end()
        if self.text.startswith("#", self.at):
            end = self.text.find("\n", self.at)
            self.at = end if end >= 0 else len(self.text)
        number = _IO_NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
        self.token_at = self.at
        operator = _OPERATOR.match(self.text, self.at)
        if operator:
            self.at = operator.end()
            self.token = operator[0]
            if self.token == "\n":
                self._read_documents()
        elif self.at < len(self.text):
            self.token = self._read_word()
        else:
            if self.documents:
                raise self.fail(f"the here-document has no end {self.documents[0][0]}")
            self.token = None

    def _read_documents(self) -> None:
        for end_word, strip_tabs, expanded in self.documents:
            while True:
                if self.at >= len(self.text):
                    raise self.fail(f"the here-document has no end {end_word}")
                newline = self.text.find("\n", self.at)
                stop = newline if newline >= 0 else len(self.text)
                line = self.text[self.at : stop]
                if (line.lstrip("\t") if strip_tabs else line) == end_word:
                    self.at = min(stop + 1, len(self.text))
                    break
                while expanded and self.at < stop:
                    self._read_piece(quote='"')
                self.at = max(self.at, min(stop + 1, len(self.text)))
        self.documents.clear()

    def _read_word(self) -> Word:
        start = self.at
        pieces: list[str] = []
        while self.at < len(self.text) and self.text[self.at] not in _WORD_ENDS:
            pieces.append(self._read_piece())
        return Word("".join(pieces), self.text[start : self.at])

    def _read_piece(self, *, quote: str = "") -> str:
        """Plain characters, one quoted string or one expansion, and what it adds to the text of its word."""
        plain = (_PLAIN_IN_QUOTES if quote else _PLAIN).match(self.text, self.at)
        if plain:
            self.at = plain.end()
            return plain[0]
        character = self.text[self.at]
        if character == "\\":
            escaped = self.text[self.at + 1 : self.at + 2]
            self.at += 2
            if escaped == "\n":
                return ""
            return escaped if not quote or escaped in '"\\$`' else f"\\{escaped}"
        if character == "$":
            return self._read_dollar(quote=quote)
        if character == "`":
            return self._read_backquotes()
        if character == "'" and not quote:
            end = self._find("'", self.at + 1)
            text = self.text[self.at + 1 : end]
            self.at = end + 1
            return text
        if character == '"' and not quote:
            self.at += 1
            pieces = []
            while not self.text.startswith('"', self.at):
                self._require_text('"')
                pieces.append(self._read_piece(quote='"'))
            self.at += 1
            return "".join(pieces)
        self.at += 1
        return character

    def _read_dollar(self, *, quote: str) -> str:
        if self.text.startswith("$((", self.at):
            return self._read_arithmetic()
        if self.text.startswith("$(", self.at):
            inner = _Parser(self.text, self.name, self.script, at=self.at + 2, function=self.function)
            inner.read_list(")")
            self.at = inner.at
            return _MARK * 2
        if self.text.startswith("${", self.at):
            return self._read_braces(quote=quote)
        self.at += 1
        variable = _VARIABLE.match(self.text, self.at)
        if variable is None:
            return "$"
        self.at = variable.end()
        return f"{_MARK}{variable[0]}{_MARK}"

    def _read_arithmetic(self) -> str:
        self.at += 3
        depth = 0
        while depth or not self.text.startswith("))", self.at):
            self._require_text("))")
            depth += {"(": 1, ")": -1}.get(self.text[self.at], 0)
            self._read_piece(quote='"')
        self.at += 2
        return _MARK * 2

    def _read_braces(self, *, quote: str) -> str:
        self.at += 2
        variable = _VARIABLE.match(self.text, self.at)
        name = variable[0] if variable else ""
        self.at += len(name)
        # In double quotes, quotes mean something again only in the pattern of # and %.
        inner_quote = "" if self.text[self.at : self.at + 1] in ("#", "%") else quote
        while not self.text.startswith("}", self.at):
            self._require_text("}")
            if self.text[self.at] == '"' and inner_quote:
                self.at += 1  # "${x:-"y"}": ends and starts the quotes around it, which changes nothing for us
            else:
                self._read_piece(quote=inner_quote)
        self.at += 1
        return f"{_MARK}{name}{_MARK}"

    def _read_backquotes(self) -> str:
        end = self.at + 1
        while not self.text.startswith("`", end):
            if end >= len(self.text):
                raise self.fail("` has no end")
            end += 2 if self.text[end] == "\\" else 1
        inner = re.sub(r"\\([`$\\])", r"\1", self.text[self.at + 1 : end])
        _Parser(inner, self.name, self.script, function=self.function).read_list()
        self.at = end + 1
        return _MARK * 2

    def _find(self, what: str, start: int) -> int:
        end = self.text.find(what, start)
        if end < 0:
            raise self.fail(f"{what} has no end")
        return end

    def _require_text(self, wanted: str) -> None:
        if self.at >= len(self.text):
            raise self.fail(f"the end of the script came before {wanted}")
