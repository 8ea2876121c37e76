"""Send signed webhooks and download files, only to and from allowed hosts.

`allowlist` decides which URLs and addresses are allowed, `signing` signs messages (Standard Webhooks), `client` sends
webhooks, `downloads` fetches files.
"""
