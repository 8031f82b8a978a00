"""Names of symbols that are allowed and awkward: for tests of every place where a name is shown or used as a key."""

from hypothesis import strategies as st

from agg_pipeline.market.names import SymbolError, check_symbol

NAMES = (
    "BTC/USD", "BRK.B", "^GSPC", "EUR USD", "[/]", "[bold]x", "Ünï-株", "🙂", "a|b", "<b>", '"q"', "'q'", "%2F", "../x",
    "=1+1", "-x", "null", "ES=F",
    "BTC-USD",  # differs from the first in / against -
    "btc/usd",  # differs from it in case
)  # fmt: skip

MORE_NAMES = (
    "a,b", "x\\", "x\\\\", r"\[1]", r"\[/]", "[/", "a\\|b", "`x`", "_x_", "**x**", "~~x~~", ":car:", "![x](y)", "&lt;",
    "&#0;", "www.example.com", "--help", "--", "@x", "~x", "$x", "${x}", "{0}", "%s", "a  b", "a\u00a0b",
    "👩\u200d🚀", "x\ufffe", "...", "a...b", "a:b", "[[none]", "*", "?", "#", "config", "1", "_", "__", "ß",
    "x" * 100, "🙂" * 100, "/" * 100,
)  # fmt: skip


def _is_allowed(name: str) -> bool:
    try:
        return bool(check_symbol(name))
    except SymbolError:
        return False


def symbols() -> st.SearchStrategy[str]:
    """Allowed names: the awkward ones, texts of the characters that have a meaning somewhere, and any text."""
    syntax = st.text("[]/\\|<>&\"'`*_~:=+-@%.,;#$!(){}? \u00a0aBé株", min_size=1, max_size=100)
    anything = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=100)
    return st.one_of(st.sampled_from([*NAMES, *MORE_NAMES]), syntax, anything).filter(_is_allowed)
