"""Base classes of the models of the database's JSON."""

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class Wire(BaseModel):
    """Frozen model. Ignores keys that a newer database adds; a field that is missing or of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Task(Wire):
    """One (symbol, timeframe), the unit of work."""

    symbol: str = Field(
        validation_alias=AliasChoices("canonical_symbol", "symbol"), serialization_alias="canonical_symbol"
    )
    timeframe: str

    def __str__(self) -> str:
        return f"{self.symbol}/{self.timeframe}"
