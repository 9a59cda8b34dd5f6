"""The suite mirrors the package."""

from tests import typechecking as typechecking
