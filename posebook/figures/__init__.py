"""Figures of the book: data in, matplotlib Figure out, no reading and no writing but `style.save`.

`style` (sizes, fonts, one colour per model, saving), `people` (poses drawn on images), `poet` (one function
per figure of the POET paper), `tables` (the paper's numbers beside ours).
"""
