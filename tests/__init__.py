"""The suite mirrors the package."""

from . import typechecking as typechecking
