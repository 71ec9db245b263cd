"""Sends JSON records to a Forebay source. Usage: forebay_client.py URL < records.ndjson"""
import itertools, json, random, sys, time, urllib.error, urllib.request, uuid


def send(url, records, attempts=8):
    """Sends a batch; returns when every record is on the server's disk."""
    body = "\n".join(json.dumps({"id": str(uuid.uuid4()), **r}) for r in records).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    for attempt in range(attempts):
        wait = min(30, 0.2 * 2**attempt) * random.uniform(0.5, 1)
        try:
            request = urllib.request.Request(url, body, headers)
            return urllib.request.urlopen(request, timeout=60).read()
        except urllib.error.HTTPError as error:
            if error.code not in (408, 429) and error.code < 500:
                raise RuntimeError(f"{error.code}: {error.read().decode()}") from error
            wait = max(wait, float(error.headers.get("Retry-After", 0)))
        except OSError:  # no response: a repeat has the same ids
            pass
        time.sleep(wait)
    raise RuntimeError(f"no success after {attempts} attempts")


if __name__ == "__main__":
    records = map(json.loads, sys.stdin)
    while batch := list(itertools.islice(records, 500)):
        send(sys.argv[1], batch)
