//! pool_hba.conf and pool_passwd while pgpool runs (auth 3, 4.5), and what the log tells.
