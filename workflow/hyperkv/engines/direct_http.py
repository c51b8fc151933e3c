"""Requests to servers on loopback: past every proxy, and without what a user's ~/.netrc says of the host."""

from __future__ import annotations

from typing import Any

import requests


def request(method: str, url: str, **options: Any) -> requests.Response:
    """`requests.request` that reads nothing from the environment. Raises requests.RequestException."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, **options)
