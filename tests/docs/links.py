"""Dead links of a site on disk."""

import html.parser
import pathlib
from urllib import parse


class _Page(html.parser.HTMLParser):
  """Links and anchors of a page."""

  def __init__(self, text: str):
    super().__init__()
    self.links: list[str] = []
    self.anchors = {''}
    self.feed(text)

  def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
    """Called for each tag."""
    del tag
    values = dict(attrs)
    self.links += [v for n in ('href', 'src') if (v := values.get(n))]
    self.anchors |= {v for n in ('id', 'name') if (v := values.get(n))}


def dead(site: pathlib.Path) -> list[str]:
  """Links within a site that lead nowhere, as `page -> link`."""
  pages = {
    path: _Page(path.read_text('utf-8')) for path in site.rglob('*.html')
  }
  lines = []
  for path, page in sorted(pages.items()):
    for link in dict.fromkeys(page.links):
      parts = parse.urlsplit(link)
      if parts.scheme or parts.netloc:
        continue
      target = _target(site, path, parse.unquote(parts.path))
      anchor = parse.unquote(parts.fragment)
      if not target.is_file() or (
        target in pages and anchor not in pages[target].anchors
      ):
        lines.append(f'{path.relative_to(site)} -> {link}')
  return lines


def _target(site: pathlib.Path, page: pathlib.Path, link: str) -> pathlib.Path:
  """The file that a relative or absolute link names; '' is the page."""
  if not link:
    return page
  folder = site if link.startswith('/') else page.parent
  path = (folder / link.lstrip('/')).resolve()
  return path / 'index.html' if path.is_dir() else path
