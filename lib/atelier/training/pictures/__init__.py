"""Pictures drawn for a run: samples while it trains, class pictures before."""
