"""Where things stand in a TOML file: the line and column of every key and value.

`tomllib` reads values and forgets their places. This walks a text that `tomllib` has accepted once more and notes them;
it checks nothing.
"""

from dataclasses import dataclass, field

Path = tuple[str | int, ...]
BARE_END = ",]}#\n"


@dataclass(frozen=True, slots=True)
class Span:
    """`length` characters from `column` of `line`, both counted from 1."""

    line: int
    column: int
    length: int


@dataclass(frozen=True, slots=True)
class Place:
    """The key of an entry and its value; items of a list have a value only."""

    key: Span
    value: Span


@dataclass(slots=True)
class _Walk:
    text: str
    at: int = 0
    places: dict[Path, Place] = field(default_factory=dict)
    counts: dict[Path, int] = field(default_factory=dict)

    def span(self, start: int, end: int) -> Span:
        line = self.text.count("\n", 0, start) + 1
        column = start - (self.text.rfind("\n", 0, start) + 1) + 1
        stop = self.text.find("\n", start, end)
        return Span(line, column, max(1, (end if stop < 0 else stop) - start))

    def skip(self, chars: str = " \t\r\n") -> None:
        """Past blanks and, where lines may end, comments."""
        while self.at < len(self.text):
            if self.text[self.at] in chars:
                self.at += 1
            elif self.text[self.at] == "#" and "\n" in chars:
                self.at = self._find("\n", self.at)
            else:
                return

    def _find(self, mark: str, start: int) -> int:
        found = self.text.find(mark, start)
        return len(self.text) if found < 0 else found

    def document(self) -> None:
        table: Path = ()
        self.skip()
        while self.at < len(self.text):
            start = self.at
            if self.text[self.at] == "[":
                array = self.text.startswith("[[", self.at)
                self.at += 2 if array else 1
                table = self.header(self.key()[0], array)
                self.at = self._find("]", self.at) + (2 if array else 1)
                span = self.span(start, self.at)
                self.places.setdefault(table, Place(span, span))
            else:
                self.pair(table)
            self.skip()

    def header(self, parts: list[str], array: bool) -> Path:
        """The path of a header: a part that is an array of tables stands for its latest table."""
        path: Path = ()
        for depth, part in enumerate(parts):
            path = (*path, part)
            if array and depth == len(parts) - 1:
                self.counts[path] = self.counts.get(path, 0) + 1
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        return path

    def key(self) -> tuple[list[str], int, int]:
        """The parts of a dotted key, where it starts and where it ends."""
        parts, start, end = [], -1, -1
        while True:
            self.skip(" \t")
            start = self.at if start < 0 else start
            if self.text[self.at] in "\"'":
                quote = self.text[self.at]
                end = self._string(quote)
                parts.append(self.text[self.at + 1 : end - 1])
            else:
                end = self.at
                while end < len(self.text) and (self.text[end].isalnum() or self.text[end] in "_-"):
                    end += 1
                parts.append(self.text[self.at : end])
            self.at = end
            self.skip(" \t")
            if self.at >= len(self.text) or self.text[self.at] != ".":
                return parts, start, end
            self.at += 1

    def pair(self, table: Path) -> None:
        parts, start, end = self.key()
        self.at = self._find("=", self.at) + 1
        self.value((*table, *parts), self.span(start, end))

    def value(self, path: Path, key: Span | None = None) -> None:
        self.skip(" \t")
        start = self.at
        opening = self.text[start]
        if opening in "\"'":
            self.at = self._string(opening)
        elif opening == "[":
            self._sequence("]", path)
        elif opening == "{":
            self._sequence("}", path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in BARE_END:
                self.at += 1
            self.at = start + len(self.text[start : self.at].rstrip())
        span = self.span(start, self.at)
        self.places[path] = Place(key or span, span)

    def _sequence(self, closing: str, path: Path) -> None:
        """The items of a list or the pairs of an inline table."""
        self.at += 1
        item = 0
        self.skip()
        while self.text[self.at] != closing:
            if closing == "]":
                self.value((*path, item))
            else:
                self.pair(path)
            item += 1
            self.skip()
            if self.text[self.at] == ",":
                self.at += 1
                self.skip()
        self.at += 1

    def _string(self, quote: str) -> int:
        """Where the string at the present place ends."""
        mark = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        at = self.at + len(mark)
        while not self.text.startswith(mark, at):
            at += 2 if self.text[at] == "\\" and quote == '"' else 1
        at += len(mark)
        while len(mark) == 3 and at < len(self.text) and self.text[at] == quote:
            at += 1
        return at


def locate(text: str) -> dict[Path, Place]:
    """The places of all keys and values of a valid TOML text, by path, as ("data", 0, "n_groups", 1)."""
    walk = _Walk(text.replace("\r\n", "\n"))
    walk.document()
    return walk.places


def nearest(places: dict[Path, Place], path: Path) -> Place:
    """The place of a path, or of the nearest thing around it; the first character of the file if there is none."""
    while path and path not in places:
        path = path[:-1]
    start = Span(1, 1, 1)
    return places.get(path, Place(start, start))
