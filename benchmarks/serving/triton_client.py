"""Asks Triton over HTTP and gRPC at once: triton_client.py FOLDER HTTP GRPC.

Asks until the file FOLDER/stop exists, and prints a JSON line per protocol.
Answers must be those of FOLDER/answers_0.npy or answers_1.npy: the policy is
exchanged meanwhile.
"""

import json
import pathlib
import sys
import threading
import time

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

_THREADS = 4  # Per protocol.


def _ask(library, url, folder, first, counts):
  """Adds {requests, wrong, old, new} to the counts, then to the total."""
  observations = np.load(folder / 'observations.npy')
  old, new = (np.load(folder / f'answers_{i}.npy') for i in range(2))
  client = library.InferenceServerClient(url)
  i = first
  while not (folder / 'stop').exists():
    rows = observations[i : i + 1]
    sent = library.InferInput('observation', rows.shape, 'FP32')
    sent.set_data_from_numpy(rows)
    action = client.infer('policy', [sent]).as_numpy('action')[0]
    is_old, is_new = bool(action == old[i]), bool(action == new[i])
    counts['requests'] += 1
    counts['wrong'] += not (is_old or is_new)
    counts['old'] += is_old and not is_new
    counts['new'] += is_new and not is_old
    i = (i + 1) % len(observations)
  counts['ended'] = True


def main():
  """One line per protocol."""
  folder = pathlib.Path(sys.argv[1])
  every = {}
  start = time.perf_counter()
  for name, library, port in zip(
    ('HTTP', 'gRPC'), (http, grpc), sys.argv[2:4], strict=True
  ):
    for i in range(_THREADS):
      counts = dict.fromkeys(('requests', 'wrong', 'old', 'new', 'ended'), 0)
      url = f'127.0.0.1:{port}'
      thread = threading.Thread(
        target=_ask, args=(library, url, folder, 50 * i, counts)
      )
      every.setdefault(name, []).append((thread, counts))
      thread.start()
  for name, running in every.items():
    for thread, _ in running:
      thread.join()
    of_threads = [counts for _, counts in running]
    row = {k: sum(c[k] for c in of_threads) for k in of_threads[0]}
    if row.pop('ended') < _THREADS:
      row['wrong'] += 1  # A thread ended with an error, which it has printed.
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({'protocol': name, **row, 'seconds': seconds}), flush=True)


if __name__ == '__main__':
  main()
