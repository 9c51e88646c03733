"""Tables on disk: Parquet files, and sorts of tables larger than memory."""
