-- The database of ngx_payment_module and its user, to copy: once, by a user who
-- may create both, e.g. by root in the server's own `mariadb`. What to put in
-- place of what is here: the password, and the addresses that nginx comes from.
--
--     mariadb < database.sql
--     ngx-payment-migrate up payment
--     mariadb payment < grants.sql
--
-- The grants come last: a right on a table needs the table.

CREATE DATABASE payment CHARACTER SET utf8mb4;

-- Without TLS the login is refused. A node on the database's own machine that
-- comes by the unix socket is 'payment'@'localhost', and needs no REQUIRE SSL.
CREATE USER 'payment'@'10.0.0.%'
    IDENTIFIED BY 'a long random password'
    REQUIRE SSL;
