"""Asks Triton over HTTP and gRPC: triton_client.py FOLDER HTTP GRPC REQUESTS.

Prints a JSON line per protocol. Answers must be those of one of the arrays in
FOLDER/answers_*.npy: while a policy is exchanged, of the old or the new one.
"""

import json
import pathlib
import sys
import threading
import time

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

_THREADS = 8


def _ask(library, url, observations, indices, answers, results):
  """Adds (wrong, by answers: how many were theirs) to the results."""
  client = library.InferenceServerClient(url)
  wrong, given = 0, [0] * len(answers)
  for i in indices:
    rows = observations[i : i + 1]
    sent = library.InferInput('observation', rows.shape, 'FP32')
    sent.set_data_from_numpy(rows)
    action = client.infer('policy', [sent]).as_numpy('action')[0]
    matches = [bool(action == a[i]) for a in answers]
    given = [n + m for n, m in zip(given, matches, strict=True)]
    wrong += not any(matches)
  results.append((wrong, given))


def main():
  """One line per protocol."""
  folder = pathlib.Path(sys.argv[1])
  ports, number = sys.argv[2:4], int(sys.argv[4])
  observations = np.load(folder / 'observations.npy')
  answers = [np.load(p) for p in sorted(folder.glob('answers_*.npy'))]
  for name, library, port in zip(
    ('http', 'grpc'), (http, grpc), ports, strict=True
  ):
    results = []
    chunks = np.array_split(np.arange(number) % len(observations), _THREADS)
    threads = [
      threading.Thread(
        target=_ask,
        args=(
          library,
          f'127.0.0.1:{port}',
          observations,
          chunk,
          answers,
          results,
        ),
      )
      for chunk in chunks
    ]
    start = time.perf_counter()
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    wrong = sum(w for w, _ in results) + number - sum(len(c) for c in chunks)
    if len(results) < _THREADS:
      wrong = number  # A thread ended with an error.
    print(
      json.dumps(
        {
          'protocol': name,
          'requests': number,
          'wrong': wrong,
          'seconds': round(time.perf_counter() - start, 2),
          'given': np.sum([g for _, g in results], axis=0).tolist(),
        }
      ),
      flush=True,
    )


if __name__ == '__main__':
  main()
