#!/bin/sh
# A quote, a run with its receipt, its status and its result, with Temporal's command line: sh cli.sh REQUEST_ID
set -eu
request='{"model": "gpt-image-2", "prompt": "A lighthouse at dawn", "size": "1024x1024", "quality": "low", "tenant": "acme"}'

temporal workflow execute --type PriceQuote --task-queue image-runs --input "$request" >&2
receipt=$(temporal workflow execute-update-with-start --update-name submit --update-input "$request" \
    --type ImageGeneration --task-queue image-runs --workflow-id "image:acme:$1" \
    --id-conflict-policy UseExisting --id-reuse-policy AllowDuplicate --input "$request" --output json)
printf '%s\n' "$receipt" >&2
printf '%s' "$receipt" | grep -Eq '"status": *"(accepted|attached)"'
temporal workflow query --workflow-id "image:acme:$1" --type status >&2
temporal workflow result --workflow-id "image:acme:$1" --output json
