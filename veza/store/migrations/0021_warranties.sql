-- depends: 0019_notifications 0018_gear

-- Of which end of its warranty the owner was told: another end is told of anew.
ALTER TABLE gear ADD COLUMN warned_of date;
CREATE INDEX gear_warranties ON gear (warranty_expires_on)
    WHERE status = 'active' AND warned_of IS DISTINCT FROM warranty_expires_on;
