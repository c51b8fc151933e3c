"""What everything stands on: errors, signals, secrets, texts and sources; nothing about KV."""
