"""Store, check and serve images.

`store` is the image store, content-addressed, on `local_backend` or `s3_backend`; `backend` is what they have in
common and the errors, `keys` the names of objects, `ownership` which tenant may use which image. `formats` recognizes
and verifies images, `inputs` loads those of a request within `input_memory`. `signed_links` and `link_server` serve
images by expiring links, `thumbnails` makes small copies.
"""
