"""HTML that can't go wrong: elements whose text is escaped, unless it is markup made here."""
import html

from utils import one_line

_EMPTY = {"br", "img", "meta", "hr"}            # elements without an end


class Markup(str):
    """A piece of HTML. Any other text becomes escaped on its way into an element."""

    __slots__ = ()


def text(words):
    """Escape `words`, unless they are Markup -> Markup. What can't be printed becomes an escape that can."""
    return words if isinstance(words, Markup) else Markup(html.escape(one_line(str(words))))


def element(name, /, *content, **attributes):
    """Make the element `name` of texts and Markup -> Markup.

    An attribute's name may end in `_`, as `class_` must, and `_` within it stands for `-`. Attributes that are None
    are left out.
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items()
                      if value is not None)
    if name in _EMPTY:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(parts, between=""):
    """Join texts and Markup -> Markup."""
    return Markup(between.join(map(text, parts)))


def table(columns, rows, class_):
    """Make a table with `columns`, names, and `rows` of cells -> Markup, in a box of its own that scrolls sideways.

    `class_` is its class in page.css. A cell is text, Markup, or a ready-made <td>.
    """
    def cell(content):
        ready = isinstance(content, Markup) and content.startswith("<td")
        return content if ready else element("td", content)

    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    body = element("tbody", *(element("tr", *map(cell, row)) for row in rows))
    return element("div", element("table", head, body, class_=class_), class_="scroll", tabindex=0)


def pairs(entries):
    """Make a list of terms and what they are, of (term, words) -> Markup."""
    return element("dl", *(part for term, words in entries for part in (element("dt", term), element("dd", words))))
