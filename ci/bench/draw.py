"""Images of drawn people per CPU second, one thread: `python ci/bench/draw.py [images]`."""

import sys
import time

import cv2

from posekit.data.drawn.scenes import draw

cv2.setNumThreads(1)
count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
draw("people", 0, 0, 128)
for size in (128, 192, 256):
    start = time.process_time()
    for index in range(count):
        draw("people", 1, index, size)
    spent = time.process_time() - start
    print(f"{size} px: {count / spent:.0f} images per CPU second ({1000 * spent / count:.2f} ms each)")
