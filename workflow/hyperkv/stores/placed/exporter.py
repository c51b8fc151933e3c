"""What a device of another host moved, as the Prometheus node exporter there tells."""

from __future__ import annotations

from collections.abc import Mapping

import requests
from prometheus_client.parser import text_string_to_metric_families

from ...base.direct_http import request
from ...base.errors import UserError

_TIMEOUT_S = 10.0
_READ, _WRITTEN = "node_disk_read_bytes_total", "node_disk_written_bytes_total"


def device_bytes(url: str, device: str) -> tuple[int, int]:
    """Bytes (read, written) of a block device since its host's start, by every program there. Raises UserError."""
    where = f"place.metrics_url: {url}"
    try:
        answer = request("GET", url, _TIMEOUT_S)
        answer.raise_for_status()
        totals = _by_device(answer.text)
    except requests.RequestException as error:
        raise UserError(f"{where} does not answer: {error}; is the node exporter running there?") from error
    except ValueError as error:
        raise UserError(
            f"{where} is no page of metrics: {error}; name the node exporter's, such as http://HOST:9100/metrics"
        ) from error
    if device not in totals:
        there = f"of {', '.join(sorted(totals))}" if totals else "of no device"
        raise UserError(
            f"place.metrics_device: {url} tells {_READ} {there}, and not of {device}; name one of its devices"
        )
    return totals[device]


def _by_device(text: str) -> Mapping[str, tuple[int, int]]:
    """(read, written) bytes of devices of which both are told. Raises ValueError."""
    found: dict[str, dict[str, int]] = {_READ: {}, _WRITTEN: {}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in found and "device" in sample.labels:
                found[sample.name][sample.labels["device"]] = int(sample.value)
    return {
        name: (read, found[_WRITTEN][name]) for name, read in found[_READ].items() if name in found[_WRITTEN]
    }
