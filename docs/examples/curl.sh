#!/bin/sh
# Starts a run, asks for its status and waits for its end, over the HTTP API of Temporal's server: sh curl.sh REQUEST_ID
set -eu
run="${TEMPORAL_HTTP:-http://127.0.0.1:7243}/api/v1/namespaces/default/workflows/image:acme:$1"

post() {
    curl --silent --show-error --fail-with-body --header 'content-type: application/json' --data "$2" "$1"
}

post "$run" '{
    "workflowType": {"name": "ImageGeneration"},
    "taskQueue": {"name": "image-runs"},
    "workflowIdConflictPolicy": "WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING",
    "workflowIdReusePolicy": "WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE",
    "input": [{"model": "gpt-image-2", "prompt": "A lighthouse at dawn", "size": "1024x1024", "quality": "low",
               "tenant": "acme"}]
}' >&2
post "$run/query/status" '{}' >&2

# A long poll: answered when the run ends, or after some 20 seconds with nothing; then it is asked again.
until
    end=$(curl --silent --show-error --fail-with-body \
        "$run/history?historyEventFilterType=HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT&waitNewEvent=true")
    printf '%s' "$end" | grep -q EVENT_TYPE_WORKFLOW_EXECUTION_
do :; done
printf '%s\n' "$end"
printf '%s' "$end" | grep -q EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
