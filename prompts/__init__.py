"""One text file a prompt, its reply's parser beside it; a prompt's version is the hash of its file."""

from prompts.template import Prompt, Template, load_template

__all__ = ["Prompt", "Template", "load_template"]
