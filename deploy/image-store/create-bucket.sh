#!/bin/sh
# Makes the bucket of the pictures where it is missing. Safe to run again. Needs curl 8 or newer.
set -eu

bucket_url="$AWS_ENDPOINT_URL/$BUCKET"

request() {
    curl --silent --show-error --output /dev/null --write-out '%{http_code}' --max-time 30 \
        --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$@"
}

if [ "$(request --head "$bucket_url")" = 200 ]; then
    echo "The bucket $BUCKET is there."
    exit 0
fi
status="$(request --request PUT "$bucket_url")"
if [ "$status" != 200 ]; then
    echo "The bucket $BUCKET could not be made at $AWS_ENDPOINT_URL: HTTP status $status." >&2
    exit 1
fi
echo "The bucket $BUCKET was made."
