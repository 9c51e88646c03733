"""RecBole: its models behind our interface, and SS4Rec as a RecBole model."""
