/** In a file of its own, so that it is fetched apart from `notifications.show`, which every screen uses. */
export { Notifications as default } from "@mantine/notifications";
