-- The roles and databases of a new PostgreSQL server; run once by its image, with the passwords in the environment.
-- A role can connect to its own databases only. The ledger has two: its owner migrates it; the worker that writes
-- it can neither delete nor switch off the triggers that let it only grow.

\set ON_ERROR_STOP on
\getenv temporal_password TEMPORAL_DB_PASSWORD
\getenv owner_password LEDGER_OWNER_PASSWORD
\getenv worker_password LEDGER_WORKER_PASSWORD

CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';
CREATE ROLE ledger_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE ledger_worker LOGIN PASSWORD :'worker_password';

CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
CREATE DATABASE ledger OWNER ledger_owner;
REVOKE ALL ON DATABASE temporal, temporal_visibility, ledger FROM PUBLIC;
GRANT CONNECT ON DATABASE ledger TO ledger_worker;

\connect ledger
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_owner GRANT SELECT, INSERT, UPDATE ON TABLES TO ledger_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_owner GRANT USAGE ON SEQUENCES TO ledger_worker;
