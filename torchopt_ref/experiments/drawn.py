"""matplotlib's figures, until the experiments draw their own."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from .words import Words


class Drawn(NamedTuple):
    title: Words
    figure: Any

    def svg(self, lang: str) -> str:
        text = io.StringIO()
        self.figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()[text.getvalue().index("<svg") :]


def drawn(name: str, figure: Any) -> Any:
    return figure if hasattr(figure, "svg") else Drawn(Words(name, name), figure)
