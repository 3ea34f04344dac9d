import org.flywaydb.core.Flyway;

/** Migrate URL USER PASSWORD LOCATION..: what `flyway migrate` does. */
public class Migrate {
    public static void main(String[] arguments) {
        String[] locations = java.util.Arrays.copyOfRange(arguments, 3,
                                                          arguments.length);

        Flyway.configure()
              .dataSource(arguments[0], arguments[1], arguments[2])
              .locations(locations)
              .load()
              .migrate();
    }
}
