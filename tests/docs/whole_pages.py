"""Every command and block of the documentation runs, and every link leads on.

Takes minutes: `make docs-test`, or `… tests/docs/whole_pages.py -k cartpole`.
`--basetemp=FOLDER` keeps the pages' folders, with the output in `.log`.
"""

import os
import subprocess
import sys

import pytest

import qwr_tf  # noqa: F401 (first: it chooses Keras 2)

# isort: split
import tf_agents.agents  # noqa: F401, here once instead of in each child.

from qwr_tf.config import startup  # noqa: F401
from tests.docs import blocks
from tests.docs import links

_PAGES = [
  page
  for page in blocks.PAGES
  if any(b.language in blocks.EXECUTED for b in blocks.blocks(page))
]


@pytest.mark.parametrize(
  'page', _PAGES, ids=lambda p: str(p.relative_to(blocks.ROOT))
)
def test_every_block_of_a_page_runs(page, tmp_path):
  os.environ['MPLBACKEND'] = 'agg'
  errors = blocks.run_page(page, tmp_path)
  assert not errors, '\n'.join(errors)


@pytest.mark.parametrize(
  'path', sorted(blocks.ROOT.glob('docs/**/*.ipynb')), ids=lambda p: p.stem
)
def test_notebooks_run_and_stay_small(path, tmp_path):
  nbclient = pytest.importorskip('nbclient')
  import nbformat

  assert path.stat().st_size < 150_000
  notebook = nbformat.read(path, 4)
  for cell in notebook.cells:
    test = cell.metadata.get('test', '')
    cell.source = blocks.shortened(cell.source, test, path.name)
  nbclient.NotebookClient(
    notebook, timeout=1800, resources={'metadata': {'path': str(tmp_path)}}
  ).execute()


def test_links_of_the_site_lead_somewhere(tmp_path):
  pytest.importorskip('mkdocs')
  site = (tmp_path / 'site').resolve()
  subprocess.run(
    [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', site],
    check=True,
    cwd=blocks.ROOT,
  )
  assert not links.dead(site)
