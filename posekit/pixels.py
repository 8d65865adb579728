"""What a pixel coordinate means: COCO's convention, and the other one, in one place.

COCO counts pixel borders: the image's top-left corner is (0, 0), the centre of its first pixel (0.5, 0.5).
"""

HALF_PIXEL = 0.5  # where the centre of the first pixel lies in COCO's convention; published networks count it as 0


def from_pixel_index(points):
    """Points whose integers are pixel centres -> COCO's convention, where integers are pixel borders (array or tensor).

    RTMO's and ViTPose's published code, heatmap cells and OpenCV number pixels by their centres. Every model converts
    at its border with these two functions: targets on the way in, `decode` on the way out.
    """
    return points + HALF_PIXEL


def to_pixel_index(points):
    """The inverse of `from_pixel_index`."""
    return points - HALF_PIXEL
