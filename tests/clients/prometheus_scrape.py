"""Scrapes a URL and reads the answer with Prometheus' own parser; prints one sample per line, name, labels, value."""

import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

with urllib.request.urlopen(sys.argv[1], timeout=30) as response:
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", response.headers
    text = response.read().decode()
seen = set()
for family in text_string_to_metric_families(text):
    assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
    for sample in family.samples:
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        assert (sample.name, labels) not in seen, sample
        seen.add((sample.name, labels))
        print(f"{sample.name}|{labels}|{sample.value:g}")
