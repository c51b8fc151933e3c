"""From tables to pictures: one module per figure; nobody else imports matplotlib."""
