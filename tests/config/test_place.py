"""A store that is there already: what a scenario may say of it, and what is refused before anything is contacted."""

import pytest

from tests.configs import accepted, changed, refusal
