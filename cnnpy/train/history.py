"""What happened in training."""

import csv
import io

from cnnpy.io import atomic_write

__all__ = ["History"]


class History:
    """One dict of numbers an epoch: ``epoch``, ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``lr``, ``seconds``."""

    def __init__(self, rows=()):
        self.rows = [dict(r) for r in rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        """``history['val_loss']``: a column; ``history[-1]``: a row."""
        return [r.get(key) for r in self.rows] if isinstance(key, str) else self.rows[key]

    def columns(self):
        return list(dict.fromkeys(k for r in self.rows for k in r))

    def save_csv(self, path):
        """Writes a table, whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic_write(path, [text.getvalue().encode()])

    def _cells(self):
        heads = self.columns()
        return heads, [
            ["" if r.get(h) is None else f"{r[h]:.4g}" if isinstance(r[h], float) else str(r[h]) for h in heads] for r in self.rows
        ]

    def __repr__(self):
        heads, cells = self._cells()
        widths = [max(len(c[i]) for c in [heads, *cells]) for i in range(len(heads))]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in [heads, *cells])

    def _repr_html_(self):
        heads, cells = self._cells()
        rows = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in cells)
        return f"<table><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{rows}</table>"
