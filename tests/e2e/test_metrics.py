"""What a real worker shows to Prometheus after real runs, and that graphs and alerts ask for nothing else."""

import asyncio
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.budgets import BudgetDecision
from runtime.ports import choose_port
from tests.e2e.stack import CONTRACT
from tests.e2e.test_worker_process import Site, open_site, until
