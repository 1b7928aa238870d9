"""Tables of measures by group: all measures of one trait in one table, with a column for each group."""
from evaluation.report.markup import element, table
from evaluation.report.numbers import joined, number, title

COLUMNS = {"measure", "group", "worse"}         # of the rows of such a table, as evaluation.labels.balance makes them


def divide(tables):
    """Divide the tables of a Section, {name: rows} -> (those of groups {trait: rows of all its measures}, the others).

    The name of one of groups is `TRAIT: MEASURE`.
    """
    by_trait, others = {}, {}
    for name, rows in tables.items():
        if rows and rows[0].keys() >= COLUMNS:
            by_trait.setdefault(name.partition(":")[0], []).extend(rows)
        else:
            others[name] = rows
    return by_trait, others


def show(rows, cell):
    """Make the table of the rows of one trait -> Markup. `cell(figure, more=parts)` makes the cell of a Figure."""
    rows = joined(rows)
    groups, lines = list(dict.fromkeys(row["group"] for row in rows)), {}
    for row in rows:
        words = f"worse than others: {number(row.get('rest'))}"
        lines.setdefault(row["measure"], {})[row["group"]] = cell(
            row["value"], more=[element("span", words, class_="worse")] if row["worse"] else [])
    return table(["measure", *groups], [[title(name), *(cells.get(group, "") for group in groups)]
                                        for name, cells in lines.items()], "data")
