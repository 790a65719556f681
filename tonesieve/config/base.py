"""The base of all sections of settings, and the bounded numbers that they use."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

# Guards: bounds that keep arithmetic finite.
Positive = Annotated[float, Field(gt=0, le=1e12)]
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Decibels = Annotated[float, Field(ge=-300, le=300)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Settings(BaseModel):
    """A section of settings: immutable, validated, and without unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML's yes and on are booleans, and a boolean would count as 1.
        if isinstance(value, bool) and "bool" not in str(cls.model_fields[info.field_name or ""]):
            raise ValueError(f"must not be {str(value).lower()}")
        return value
