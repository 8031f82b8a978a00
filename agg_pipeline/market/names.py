"""Names of symbols: which are allowed, and how a name or another text is written in each kind of place.

A name is data wherever it stands: it is never folded, stripped or read as syntax. All code that puts a name, or another
text of the database, into a place with rules of its own imports the function for that place from here;
``agg_pipeline_tests/unit/test_escaping.py`` fails with file and line where a module does it by itself.
"""

import functools
import hashlib
import html
import re
import shlex
import unicodedata
from urllib.parse import quote

MAX_CHARACTERS = 100
SYMBOL_RULE = (
    f"a symbol is 1 to {MAX_CHARACTERS} characters, none of them a control or direction-changing character, "
    "and neither begins nor ends with a blank"
)

_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Unicode's property Bidi_Control
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029"  # categories Cc, Zl, Zp
_FORBIDDEN = re.compile(f"[{_CONTROLS}{_DIRECTIONS}\ud800-\udfff]")  # surrogates: they have no UTF-8
_INVISIBLE = re.compile(f"[{_CONTROLS}{_DIRECTIONS}]")
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_MAX_KEY = 100  # characters; Dagster makes the key a part of a file name, which has at most 255 bytes
_MAX_TAG = 63
_MAX_FILE = 150
_DIGEST = 16  # hex digits, 64 bits, of a text that is cut


class SymbolError(ValueError):
    """A text is no name of a symbol; the message quotes it and states the rule."""


@functools.lru_cache(maxsize=4096)  # each row of a file asks
def check_symbol(name: str) -> str:
    """The name as it is. Raises SymbolError if it is no name of a symbol."""
    if not name:
        problem = "is empty"
    elif len(name) > MAX_CHARACTERS:
        problem = f"has {len(name):,} characters"
    elif found := _FORBIDDEN.search(name):
        problem = f"has {_described(found[0])} as character {found.start() + 1}"
    elif name != name.strip():
        problem = "begins or ends with a blank"
    else:
        return name
    shown = name if len(name) <= MAX_CHARACTERS else f"{name[:40]}..."
    raise SymbolError(f"symbol {shown!r} {problem}; {SYMBOL_RULE}")


def _described(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip()


def mapping_key(name: str, most: int = _MAX_KEY) -> str:
    """Key of a dynamic output of Dagster: ASCII letters, digits and ``_``, different for different names.

    Letters and digits stay; any other character is its code point in hexadecimal between underscores, as ``BTC_2f_USD``
    for BTC/USD. A key over ``most`` characters is cut, and ends with two underscores and a digest of the name: no other
    key has these, since between two underscores there is a code point. Dagster reserves some words, such as ``config``:
    put a number before the key.
    """
    parts = [c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in name]
    if len(key := "".join(parts)) <= most:
        return key
    while len(key) > most - _DIGEST - 2:
        key = key.removesuffix(parts.pop())
    return f"{key}__{_digest(name)}"


def tag_value(name: str) -> str:
    """Value of a tag in Dagster: as a mapping key, at most 63 characters, which Dagster and Kubernetes allow."""
    return mapping_key(name, _MAX_TAG)


def partition_key(name: str) -> str:
    """Key of a partition in Dagster, percent-encoded: it gives ``...``, ``|``, ``,`` and ``[`` a meaning."""
    return quote(name, safe="").replace("...", "%2E%2E%2E")


def run_key(name: str) -> str:
    """Part of a run key, percent-encoded, so that a colon between two parts stays the only one."""
    return quote(name, safe="")


def url_part(name: str) -> str:
    """One part of a path, or one value of a query, of a URL."""
    return quote(name, safe="")


def file_name(name: str) -> str:
    """Part of a file name, ASCII, different for different names even where letters of both cases count as the same.

    Percent-encoded. A name with small letters ends with a digest after ``~``, which no other name has, as does one that
    had to be cut.
    """
    encoded = quote(name, safe="").replace("~", "%7E")
    if encoded[0] in ".-":  # a hidden file; an option
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) <= _MAX_FILE and name == name.upper():
        return encoded
    return f"{encoded[:_MAX_FILE]}~{_digest(name)}"


def shell_words(*words: str) -> str:
    """Arguments of a command, to be typed into a shell: quoted, after ``--`` if one would be read as an option."""
    # zsh reads =word as the path of a command.
    quoted = [
        f"'{word}'" if word.startswith("=") and shlex.quote(word) == word else shlex.quote(word) for word in words
    ]
    return " ".join(["--", *quoted] if any(word.startswith("-") for word in words) else quoted)


def terminal(text: str) -> str:
    """Text for the terminal: control and direction-changing characters but the line feed as ``\\x1b``, ``\\u202e``.

    There is no markup to escape: the consoles of ``cli/app.py`` read none.
    """
    return _INVISIBLE.sub(lambda found: found[0] if found[0] == "\n" else ascii(found[0])[1:-1], text)


def html_text(text: str) -> str:
    """Text between the tags of HTML, and in plotly's labels, which know no entity for a quote."""
    return html.escape(_NOT_IN_XML.sub("\ufffd", text), quote=False)


def html_attribute(text: str) -> str:
    """Text between the quotes of an attribute of HTML or SVG."""
    return html.escape(_NOT_IN_XML.sub("\ufffd", text), quote=True)


def svg_text(text: str) -> str:
    """Text between the tags of SVG. Characters that XML does not know become U+FFFD: one would void the picture."""
    return html_attribute(text)


def markdown_cell(text: str) -> str:
    """Text in a cell of a Markdown table (GitHub's), on one line, without markup, links, images or HTML."""
    return re.sub(r"([\\`*_~|<>&\[\]])", r"\\\1", terminal(" ".join(text.splitlines())))


def csv_cell(text: str) -> str:
    """Text for ``csv.writer``: with an apostrophe before what a spreadsheet would compute, and before an apostrophe."""
    return f"'{text}" if text.startswith(tuple("=+-@\t\r'＝＋－＠")) else text  # noqa: RUF001 - full-width ones count too


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
