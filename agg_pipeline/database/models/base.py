"""What all models of the database's JSON share."""

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class Wire(BaseModel):
    """A newer database may add keys; none that we name may be missing or of another type."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Task(Wire):
    """One (symbol, timeframe), the unit of work."""

    symbol: str = Field(
        validation_alias=AliasChoices("canonical_symbol", "symbol"), serialization_alias="canonical_symbol"
    )
    timeframe: str

    def __str__(self) -> str:
        return f"{self.symbol}/{self.timeframe}"
