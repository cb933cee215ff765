"""The guide as a site: `sphinx-build -W docs build/guide` executes every block of its code."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SPHINX = Path(__file__).parent / "_sphinx"
sys.path.insert(0, str(SPHINX))

# The blocks call `composed-lifts` as a reader does, and print as wide as a page.
os.environ["JUPYTER_PATH"] = str(SPHINX)
os.environ["PYTHONSTARTUP"] = str(SPHINX / "kernels" / "python3" / "startup.py")
os.environ |= {"COLUMNS": "120", "JAX_PLATFORMS": "cpu"}

# What one page has compiled, and a command, which is a process of its own, the next one loads.
folder = tempfile.TemporaryDirectory()
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": f"{folder.name}/compiled",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

COMMANDS = SPHINX / "commands"
os.environ["PATH"] = f"{COMMANDS}:{Path(sys.executable).parent}:{os.environ['PATH']}"
os.environ["COMMANDS_OF_PAGES"] = place = f"{folder.name}/commands"
server = subprocess.Popen([sys.executable, COMMANDS / "server.py", place], stdout=subprocess.PIPE)
if server.stdout.readline() != b"ready\n":
    raise RuntimeError("the server of the commands has not started")

project = "composed-lifts"
extensions = ["myst_nb", "sphinx_design", "twins", "outputs", "folding"]
exclude_patterns = ["_static", "_sphinx"]

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_render_error_lexer = "text"  # what an error says is no Python
myst_enable_extensions = ["colon_fence"]
nb_execution_show_tb = True
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

html_theme = "pydata_sphinx_theme"
html_title = "composed-lifts"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_copy_source = False
html_show_copyright = False
html_sidebars = {"**": []}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "show_prev_next": True,
}
