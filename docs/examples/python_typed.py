"""Make an image and show its bill: `python python_typed.py REQUEST_ID`. Needs the package `gpt_image_runs`."""

import os
import sys

from gpt_image_runs import Client, run_and_exit

PICTURE = {"model": "gpt-image-2", "prompt": "A lighthouse at dawn", "size": "1024x1024", "quality": "low"}


async def main(request_id: str) -> None:
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    submission = await client.submit({**PICTURE, "tenant": "acme", "request_id": request_id})
    print(f"{submission.receipt.status}, at most {submission.receipt.price_ceiling_usd} USD")
    result = await submission.result()
    (image,) = await client.images(result)
    print(f"{len(image)} bytes of {result.images[0].uri}")
    print(f"{result.cost.amount_usd} USD, {result.billing.state}")


if __name__ == "__main__":
    run_and_exit(main(sys.argv[1]))
