"""Run the simulator with images as large as the provider's: `python -m benchmarks.grainy_simulator`.

It takes the options of `simulator`. Drawn images are smooth and compress well; with noise, one of 1024x1024 has about
2 MB as a PNG, like a photograph.
"""

import io
import sys
from functools import lru_cache

from PIL import Image, ImageChops

from simulator import images_api
from simulator.__main__ import main
from simulator.pictures import Brief, Encoding, draw_picture, encode

_GRAIN = 8


@lru_cache(maxsize=8)
def draw_with_grain(brief: Brief, encoding: Encoding) -> bytes:
    """Draw an image with noise in each color channel."""
    smooth = Image.open(io.BytesIO(draw_picture(brief, encoding))).convert("RGB")
    grain = Image.merge("RGB", [Image.effect_noise(brief.size, _GRAIN) for _ in range(3)])
    return encode(ImageChops.add(smooth, grain, offset=-128).convert("RGBA"), encoding)


if __name__ == "__main__":
    setattr(images_api, draw_picture.__name__, draw_with_grain)
    sys.exit(main())
