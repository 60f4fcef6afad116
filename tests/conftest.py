"""What every test file may rely on."""

import gin
import pytest


@pytest.fixture(autouse=True, scope='module')
def _own_configuration():
  """No file sees the gin bindings of another that ran before it."""
  gin.clear_config()
  yield
  gin.clear_config()
