"""Sliders in notebooks."""

from __future__ import annotations


def sliders(draw, **controls) -> None:
    """Shows controls (ipywidgets) and, whenever one is moved, `draw(**values)` below them.

    Until then nothing is drawn. `ipywidgets.interact` draws at once, and programs that execute a notebook without a
    browser may wait for ever for the image that it sends to and fro.
    """
    from IPython.display import display
    from ipywidgets import Output, VBox

    place = Output()

    def redraw(_change) -> None:
        place.clear_output(wait=True)
        with place:
            display(draw(**{name: control.value for name, control in controls.items()}))

    for name, control in controls.items():
        control.description = control.description or name
        control.observe(redraw, "value")
    display(VBox([*controls.values(), place]))
