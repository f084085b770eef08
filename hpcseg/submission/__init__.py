"""`hpcseg submit`: what a stage takes (`demand`), on how many nodes it fits (`estimate`), and the batch script for it (`machines`)."""
