"""Which numbers of an audit go to a tracker?"""

import pyarrow as pa


def audit_scalars(table: pa.Table) -> dict[str, float]:
    """Name the estimates over whole data sets `audit/<dataset>/<metric>/<slice>/<feature>`.

    Rows of subsets stay in the table.
    As-published rows get `as-published-` before the metric, so that the two never share a name.
    """
    scalars: dict[str, float] = {}
    for row in table.filter(pa.compute.equal(table["subset"], "")).to_pylist():
        metric = row["metric"] if row["mode"] == "corrected" else f"as-published-{row['metric']}"
        parts = [part for part in (row["dataset"], metric, row["slice"], row["feature"]) if part]
        name = "/".join(["audit", *parts])
        if name in scalars:
            raise ValueError(f"two audit rows are named {name}")
        scalars[name] = row["estimate"]
    return scalars
