#!/bin/sh
# Makes the namespace TEMPORAL_NAMESPACE, the search attributes of the runs and the Nexus endpoint where they are missing.
# Safe to run again. The `temporal` command reads the server's address and the namespace from TEMPORAL_*.
set -eu

# How long Temporal remembers a run that has ended; the ledger remembers it for ever.
RETENTION=30d

# A new namespace takes seconds to be known everywhere, so each step is tried for up to two minutes.
insist() {
    tries=60
    until "$@"; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            echo "Given up: $*" >&2
            exit 1
        fi
        sleep 2
    done
}

create_namespace() {
    temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
        temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
}

create_search_attribute() {
    temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --type "$1" --name "$2"
}

create_nexus_endpoint() {
    temporal operator nexus endpoint get --name image-runs >/dev/null 2>&1 ||
        temporal operator nexus endpoint create --name image-runs \
            --target-namespace "$TEMPORAL_NAMESPACE" --target-task-queue image-runs
}

insist create_namespace
for name in Tenant Model Operation BillingState WaitsFor Batch; do
    insist create_search_attribute Keyword "$name"
done
insist create_search_attribute Double CostUsd
insist create_search_attribute Int ImageCount
insist create_nexus_endpoint
